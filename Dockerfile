# The image of every Airflow service in docker-compose.yaml.
# The slim one: Airflow with the providers it cannot do without, which constraints.txt locks too. The full image brings
# some thirty more, whose packages contradict that lock. Both have the same programs (dumb-init, curl, git).
FROM apache/airflow:slim-3.3.2-python3.12

USER root
# Drills restore to servers of the backups' major version; maintenance.logs.logrotate_configuration needs logrotate.
# The script adds the package source of PostgreSQL's own project, which has every supported version.
ARG POSTGRES_MAJOR=18
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql-common ca-certificates logrotate \
    && echo "create_main_cluster = false" >> /etc/postgresql-common/createcluster.conf \
    && sh /usr/share/postgresql-common/pgdg/*.sh -y \
    && apt-get install -y --no-install-recommends "postgresql-${POSTGRES_MAJOR}" \
    && rm -rf /var/lib/apt/lists/*
# Named volumes take their owner from these folders.
RUN mkdir -p /var/lib/operations/spool /var/lib/operations/reports /var/lib/operations/archive \
    && chown -R airflow:0 /var/lib/operations

USER airflow
WORKDIR /opt/airflow
COPY --chown=airflow:0 requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt && pip check
COPY config config
COPY deploy deploy
COPY include include
COPY plugins plugins
COPY dags dags

USER root
# Tasks write to folders that others write to as well; no mistake there shall change what runs. The user airflow is in the
# group 0. It goes on to make files of its own beside the code (airflow.cfg), but replaces none of another owner: +t.
# Python cannot keep what it compiles there any more, so that is done here.
RUN chown -R root:0 config deploy include plugins dags requirements.txt constraints.txt \
    && chmod -R u=rwX,go=rX config deploy include plugins dags requirements.txt constraints.txt \
    && chown root:0 . && chmod 1775 . \
    && python -m compileall -q deploy include plugins dags

USER airflow
ENV PYTHONPATH=/opt/airflow
