def check(world, report, gateways, ways): pass
