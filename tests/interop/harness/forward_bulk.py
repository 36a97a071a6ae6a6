def check(world, report, gateways, ways, short): pass
