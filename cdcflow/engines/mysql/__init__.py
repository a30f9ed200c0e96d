"""What every part that speaks to MySQL or MariaDB needs: connections, errors, names."""
