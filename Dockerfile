# The image of every Airflow service in docker-compose.yaml.
FROM apache/airflow:3.3.2-python3.12

USER root
# Named volumes take their owner from these folders.
RUN mkdir -p /var/lib/operations/spool /var/lib/operations/reports /var/lib/operations/archive \
    && chown -R airflow:0 /var/lib/operations

USER airflow
WORKDIR /opt/airflow
COPY --chown=airflow:0 requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt && pip check
COPY --chown=airflow:0 config config
COPY --chown=airflow:0 deploy deploy
COPY --chown=airflow:0 include include
COPY --chown=airflow:0 plugins plugins
COPY --chown=airflow:0 dags dags

ENV PYTHONPATH=/opt/airflow
