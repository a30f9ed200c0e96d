"""The server's settings and the account's privileges, as `check` looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.sources.mysql import grants
from cdcflow.sources.mysql.grants import Grants
from cdcflow.sources.mysql.log_end import rows

_SETTINGS: Final = (
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_expire_logs_seconds",
    "binlog_expire_logs_auto_purge",
    "binlog_transaction_compression",
    "expire_logs_days",
    "gtid_mode",
    "innodb_flush_log_at_trx_commit",
    "innodb_native_foreign_keys",
    "log_bin_compress",
    "log_replica_updates",
    "log_slave_updates",
    "max_binlog_total_size",
    "server_id",
    "sync_binlog",
)


@dataclass(frozen=True, slots=True)
class Server:
    """The server's settings and who we are there."""

    flavour: Flavour
    settings: dict[str, str]
    grants: Grants

    @property
    def mysql(self) -> bool:
        return self.flavour.engine == "mysql"

    def number(self, name: str) -> float:
        """Return a setting as a number; -1 where the server does not know it."""
        return float(self.settings.get(name, "-1"))

    def set(self, name: str, value: str) -> str:
        """Return the statement that sets a variable, for good where the server can."""
        if self.mysql and self.flavour.version >= (8,):
            return f"SET PERSIST {name} = {value}"
        return f"SET GLOBAL {name} = {value} (and in the server's configuration)"


def read(connection: Connection, flavour: Flavour) -> Server:
    """Look at the server. Raises pymysql's errors."""
    return Server(flavour, settings(connection), grants.read(connection, flavour))


def settings(connection: Connection) -> dict[str, str]:
    """Return the server's variables that `check` and `refusal` need; those that it does not know are missing."""
    names = ", ".join(f"'{name}'" for name in _SETTINGS)
    found = rows(connection, f"SHOW GLOBAL VARIABLES WHERE variable_name IN ({names})")
    return {str(name).lower(): str(value) for name, value in found}
