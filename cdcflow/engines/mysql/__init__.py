"""What the MySQL and MariaDB connectors share: names, connections, errors."""
