#!/bin/sh
# Before the data server ends: a primary hands over first, so that writers wait for a second and not for the election.
set -eu
. /opt/stepaudio/redis/common.sh
role() { ask "$SELF" 6379 role | head -n 1; }
[ "$REPLICAS" -gt 1 ] && [ "$(role)" = master ] || exit 0
ask "$SELF" 26379 sentinel failover "$SERVICE" || exit 0 # no replica is fit: then it ends as the primary
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
  [ "$(role)" = master ] || exit 0
  sleep 1
done
