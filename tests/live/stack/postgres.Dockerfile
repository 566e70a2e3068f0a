ARG BASE
FROM $BASE
COPY root /
COPY postgres.sh /entrypoint
COPY --chown=105:105 own /var/lib/postgresql/data
COPY --chown=105:105 own /var/run/postgresql
USER postgres
ENV PATH=/usr/lib/postgresql/15/bin:/bin:/usr/bin PGDATA=/var/lib/postgresql/data/15
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
HEALTHCHECK --interval=500ms --timeout=20s --retries=1000 \
    CMD PGPASSWORD=$(cat $POSTGRES_PASSWORD_FILE) psql -h 127.0.0.1 -U postgres -c 'select 1'
ENTRYPOINT ["sh", "/entrypoint"]
