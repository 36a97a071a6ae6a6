"""The forwarder between real clients and real servers; each group of checks is a file of its own, called from here."""

from . import forward_bulk, forward_clients, forward_end, forward_parent, forward_refusals
from .entrances import Redirect, entrances
from .gateways import Gateways


def table(report, rows, columns, cells):
    """The summary: clients by entrances."""
    report.section("The forwarder: what clients got, against going direct")
    width = max(len(row) for row in rows) + 2
    print("       " + "".join([" " * width, *(f"{column:18}" for column in columns)]))
    for row in rows:
        print("       " + "".join([f"{row:{width}}", *(f"{cells.get((row, column), '-'):18}" for column in columns)]))


def check(world, report, short):
    report.section("The forwarder: servers and entrances")
    gateways = Gateways(world)
    gateways.start()
    try:
        direct, ways, missing = entrances(world, gateways)
        for way in ways:
            report.check(f"{way.name} listens")
        for way in missing:
            report.check(f"{way.name} listens", "nobody does")
        clients = forward_clients.Clients(world, gateways, report, short)
        clients.go_direct(direct)
        for way in ways:
            # The same listener as before: in short, the look-up is what counts.
            clients.go_through(way, ["curl"] if short and way.resolver else clients.rows)
        if not short:
            redirect = Redirect(world, gateways)
            with redirect as way:
                clients.go_through(way, clients.rows)
                ways.append(way)
            forward_refusals.redirected_to_itself(world, report, redirect)
            redirect.sidegate.stop()
        forward_bulk.check(world, report, gateways, ways, clients.cells, short)
        for name, sidegate in {way.label: way.sidegate for way in ways if way.sidegate.alive()}.items():
            peak = sidegate.peak_memory()
            report.check(f"{name}: at most 64 MiB of memory, {peak >> 20} MiB", peak <= 64 << 20)
        forward_refusals.check(world, report, gateways, ways)
        forward_end.check(world, report, gateways, ways, short)
        world.stop_sidegates()
        forward_parent.check(world, report, gateways)
        table(report, [*clients.rows, *forward_bulk.ROWS], [way.name for way in ways], clients.cells)
    finally:
        world.stop_sidegates()
        gateways.stop()
