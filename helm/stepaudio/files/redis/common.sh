# What the scripts of the store share: who this server is, and which one is the primary.
# Environment: POD_NAME, DOMAIN (of the headless Service), REPLICAS, TLS (true or false), REDIS_PASSWORD.
# shellcheck shell=sh

# shellcheck disable=SC2034 # the scripts that read this file use it
SELF="$POD_NAME.$DOMAIN"
SERVICE=stepaudio
STATE=/data/sentinel.conf
TLS_FOLDER=/etc/stepaudio/redis-tls
export REDISCLI_AUTH="$REDIS_PASSWORD"

# host N: the name of the Nth server.
host() { echo "${POD_NAME%-*}-$1.$DOMAIN"; }

# ask HOST PORT WORDS...: one command, with an end in sight.
ask() {
  to_host=$1 to_port=$2
  shift 2
  if [ "$TLS" = true ]; then
    set -- --tls --cacert "$TLS_FOLDER/ca.crt" "$@"
  fi
  timeout 3 redis-cli --no-auth-warning -h "$to_host" -p "$to_port" "$@"
}

# The primary: what a Sentinel says that runs; else what the own one last knew; else the first server, which is right
# only when none has ever run.
find_primary() {
  number=0
  while [ "$number" -lt "$REPLICAS" ]; do
    said=$(ask "$(host "$number")" 26379 sentinel get-master-addr-by-name "$SERVICE" 2>/dev/null | head -n 1) || said=
    case $said in *."$DOMAIN") echo "$said" && return ;; esac
    number=$((number + 1))
  done
  known=$(sed -n "s/^sentinel monitor $SERVICE \([^ ]*\) .*/\1/p" "$STATE" 2>/dev/null) || known=
  echo "${known:-$(host 0)}"
}

# port_lines PORT: a server's configuration of its port.
port_lines() {
  if [ "$TLS" = true ]; then
    echo "port 0"
    echo "tls-port $1"
    echo "tls-cert-file $TLS_FOLDER/tls.crt"
    echo "tls-key-file $TLS_FOLDER/tls.key"
    echo "tls-ca-cert-file $TLS_FOLDER/ca.crt"
    echo "tls-auth-clients no"
    echo "tls-replication yes"
  else
    echo "port $1"
  fi
}
