#!/usr/bin/env bash
# A tick each minute by Google Cloud Scheduler: EDGE=https://… CRON_SECRET=… LOCATION=europe-west1 ./google-cloud-scheduler.sh
# Run again, it takes over another address or secret.
set -euo pipefail
: "${EDGE:?the address of an edge, such as https://rollcall.example.com}"
: "${CRON_SECRET:?that of the edge}"
: "${LOCATION:?a region of Cloud Scheduler}"

job=rollcall-tick
settings=(
  --location="$LOCATION"
  --schedule="* * * * *"
  --time-zone=Etc/UTC
  --uri="${EDGE%/}/api/cron"
  --http-method=POST
  --attempt-deadline=30s
  # The next tick makes up for one that failed.
  --max-retry-attempts=0
)
if gcloud scheduler jobs describe "$job" --location="$LOCATION" >/dev/null 2>&1; then
  gcloud scheduler jobs update http "$job" "${settings[@]}" --update-headers="Authorization=Bearer $CRON_SECRET"
else
  gcloud scheduler jobs create http "$job" "${settings[@]}" --headers="Authorization=Bearer $CRON_SECRET"
fi
