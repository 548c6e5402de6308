"""pupgevent beside NGINX stream, HAProxy TCP and a direct connection: run it with `make bench`.

    __main__.py    the command line
    cases.py       what is measured, and how          load.py     wrk, and connections held open
    bars.py        what pupgevent has to reach
    servers.py     who balances, over which servers   tools.py    where NGINX, HAProxy, wrk lie
    processes.py   start, stop, CPU, memory
    report.py      medians and ratios, table, JSON    picture.py  the same as bars in an SVG
"""
