#!/bin/sh
# Starts the data server: as the primary if it is that, else as a replica of it.
set -eu
. /opt/stepaudio/redis/common.sh
umask 077
primary=$SELF
[ "$REPLICAS" -eq 1 ] || primary=$(find_primary)
{
  cat /opt/stepaudio/redis/redis.conf
  port_lines 6379
  echo "requirepass $REDIS_PASSWORD"
  echo "masterauth $REDIS_PASSWORD"
  echo "replica-announce-ip $SELF"
  [ "$primary" = "$SELF" ] || echo "replicaof $primary 6379"
} > /run/redis/redis.conf
exec redis-server /run/redis/redis.conf
