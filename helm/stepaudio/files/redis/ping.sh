#!/bin/sh
# ping.sh PORT: whether the server at this pod's PORT answers.
set -eu
. /opt/stepaudio/redis/common.sh
[ "$(ask "$SELF" "$1" ping)" = PONG ]
