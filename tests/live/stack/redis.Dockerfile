ARG BASE
FROM $BASE
COPY root /
COPY --chown=100:100 own /data
USER redis
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["redis-server", "--appendonly", "yes", "--protected-mode", "no", "--include", "/run/secrets/redis"]
