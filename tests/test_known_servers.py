"""Which commands are web servers: what they are taken for, and what they are not."""

from typing import List, Optional, Union

import pytest

from known_servers import web_server

COMMANDS = [
    ("gunicorn --bind 127.0.0.1:$PUP_CLUSTER_PORT app:app", "gunicorn"),
    (".venv/bin/gunicorn --threads 8 app:app", "gunicorn"),
    (["/usr/bin/gunicorn", "app:app"], "gunicorn"),
    (["/bin/sh", "-c", "cd srv; gunicorn app"], "gunicorn"),
    (["sh", "gunicorn", "app"], None),
    ("exec uvicorn app:app --port ${PORT:-8000}", "uvicorn"),
    ("python3 -m uvicorn --ws websockets app:app", "uvicorn"),
    (".venv/bin/python3.11 -u -m http.server 8000", "http.server"),
    ("python3 manage.py runserver 8000", "manage.py runserver"),
    ("./manage.py runserver", "manage.py runserver"),
    ("env A=1 B='2 3' flask --app shop run", "flask run"),
    ("A=1 nice -n 5 waitress-serve app:app", "waitress-serve"),
    ("cd srv && exec hypercorn app", "hypercorn"),
    ("mkdir -p data\ndaphne app \\\n  --port $PORT", "daphne"),
    ("gunicorn app:app 2>&1 | logger -t app", "gunicorn"),
    ("(umask 077; puma) &", "puma"),
    ("bundle exec puma -p $PORT", "puma"),
    ("poetry run uvicorn app:app", "uvicorn"),
    ("npx next start -p $PORT", "next start"),
    ("node node_modules/.bin/next start", "next start"),
    ("ruby bin/rails s", "rails s"),
    ("php -S 127.0.0.1:$PORT -t public", "php -S"),
    ("php artisan serve", "artisan serve"),
    ("symfony server:start", "symfony server:start"),
    ("uwsgi --http-socket :$PORT --module app", "uwsgi --http-socket"),
    ("nginx -g 'daemon off;'", "nginx"),
    # What may be anything.
    ("node server.js", None),
    ("npm start", None),
    ("deno run --allow-net main.ts", None),
    ("python3 server.py gunicorn", None),
    ("flask db upgrade", None),
    ("uwsgi --socket :$PORT", None),
    ("php worker.php", None),
    ("php-fpm8.2 --nodaemonize", None),
    ("redis-server --port $PORT", None),
    ("echo uvicorn; sleep 600", None),
    ("tail -f log | uvicorn", None),
    ("celery -A uvicorn worker", None),
    # What ends TLS speaks no HTTP to a balancer.
    ("gunicorn --certfile cert.pem --keyfile key.pem app:app", None),
    ("uvicorn --ssl-keyfile key.pem app:app", None),
    ("puma -b 'ssl://127.0.0.1:9292?key=k'", None),
    # What is no command at all.
    ("gunicorn 'app", None),
    ("", None),
    ("&&", None),
    ([], None),
]  # fmt: skip


@pytest.mark.parametrize("cmd, server", COMMANDS, ids=[str(each[0])[:40] for each in COMMANDS])
def test_a_web_server_is_known_by_its_command(
    cmd: "Union[str, List[str]]", server: Optional[str]
) -> None:
    assert web_server(cmd) == server
