#!/bin/sh
# Starts the Sentinel. It writes what it learns into its configuration, which therefore lies on the volume; passwords
# (also as it writes them down itself, in "user") and times are set anew at each start.
set -eu
. /opt/stepaudio/redis/common.sh
umask 077
own='^(port|user|tls-[a-z-]+|requirepass|sentinel (auth-pass|sentinel-pass|announce-ip|resolve-hostnames|announce-hostnames|down-after-milliseconds|failover-timeout|parallel-syncs)) '
kept=$(grep -vE "$own" "$STATE" 2>/dev/null) || kept=
case $kept in
  *"sentinel monitor $SERVICE "*) ;;
  *) kept="sentinel monitor $SERVICE $(find_primary) 6379 $((REPLICAS / 2 + 1))" ;;
esac
primary=$(echo "$kept" | sed -n "s/^sentinel monitor $SERVICE \([^ ]*\) .*/\1/p")
until getent hosts "$primary" > /dev/null; do sleep 1; done # a name that is not known yet ends a Sentinel
{
  port_lines 26379
  echo "sentinel resolve-hostnames yes"
  echo "sentinel announce-hostnames yes"
  echo "$kept"
  echo "requirepass $REDIS_PASSWORD"
  echo "sentinel sentinel-pass $REDIS_PASSWORD"
  echo "sentinel announce-ip $SELF"
  echo "sentinel auth-pass $SERVICE $REDIS_PASSWORD"
  echo "sentinel down-after-milliseconds $SERVICE $DOWN_AFTER_MS"
  echo "sentinel failover-timeout $SERVICE 60000"
  echo "sentinel parallel-syncs $SERVICE 1"
} > "$STATE.new"
mv "$STATE.new" "$STATE"
exec redis-sentinel "$STATE"
