def check(world, report, short):
    pass
