# A database is made when there is none, but not before the test has seen that it is waited for.
set -e
until [ -e /tmp/go ] || [ -d "$PGDATA" ]; do sleep 0.05; done
[ -d "$PGDATA" ] || initdb --no-sync -A scram-sha-256 -U postgres --pwfile "$POSTGRES_PASSWORD_FILE"
echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
exec postgres -c "listen_addresses=*" -c fsync=off -c jit=off
