"""Statements that do not wait for ever. libpq has no such limit: where the server is
frozen, its kernel answers in its name, and the client waits."""

import os
import socket
import threading
import time

import psycopg


class Patience:
    """Ends the connection of a statement that takes longer than `limit_s`; for one
    statement at a time."""

    def __init__(self, limit_s):
        self._limit_s = limit_s
        self._waiting = None  # (since when, the connection)
        threading.Thread(target=self._watch, daemon=True).start()

    def row(self, connection, sql, arguments=()):
        """The first row that the statement gives. psycopg.Error when it took too long."""
        self._waiting = time.monotonic(), connection
        try:
            return connection.execute(sql, arguments).fetchone()
        finally:
            self._waiting = None

    def _watch(self):
        while True:
            time.sleep(0.2)
            since, connection = self._waiting or (None, None)
            if since is None or time.monotonic() - since < self._limit_s:
                continue
            try:
                with socket.socket(fileno=os.dup(connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)
            except (OSError, psycopg.Error):
                pass
