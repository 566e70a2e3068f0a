ARG BASE
FROM $BASE
COPY root /
COPY app.py /srv/app.py
USER www-data
EXPOSE 8000
CMD ["python3.11", "-u", "/srv/app.py"]
