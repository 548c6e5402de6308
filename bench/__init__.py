"""pupgevent beside NGINX, HAProxy and a direct connection, in TCP, HTTP, and TLS: `make bench`.

    __main__.py    the command line
    cases.py       what is measured, and how          load.py     wrk, and connections held open
    bars.py        what pupgevent has to reach        tls.py      a certificate, clients with TLS
    handshakes.py  a connection for each request, with a full handshake or a resumed one
    servers.py     who balances, over which servers   tools.py    where NGINX, HAProxy, wrk lie
    configurations.py                                 their configuration files
    processes.py   start, stop, CPU, memory
    report.py      medians and ratios, table, JSON    picture.py  the same as bars in an SVG

Each has a command of its own, `python -m bench.flood` and `python -m bench.restarts`:

    flood.py       what others notice of a process that floods its log file
    restarts.py    what a rolling restart costs, for each of applications.py
"""
