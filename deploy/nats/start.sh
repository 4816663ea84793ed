#!/bin/sh
# Runs nats-server with the arguments given. It reads passwords from its environment alone, while containers are given
# them in files: NATS_GATEWAY_PASSWORD_FILE=/run/secrets/... becomes NATS_GATEWAY_PASSWORD, and so on. For one of several
# servers, NATS_PEERS (host:port,host:port,...) and NATS_CLUSTER_PASSWORD become NATS_ROUTES.
set -eu

for user in GATEWAY AUTH WORKSPACE ARTIFACTS APPS OPERATOR CLUSTER; do
  name="NATS_${user}_PASSWORD"
  eval "file=\${${name}_FILE:-}"
  if [ -n "$file" ]; then
    password=$(cat "$file")
    export "$name=$password"
  fi
  eval "password=\${${name}:-}"
  case $password in
    '') ;; # nats-server says what it misses
    *[!A-Za-z0-9]* | [!A-Za-z]*)
      echo "start.sh: $name must be letters and digits and begin with a letter" >&2
      exit 1
      ;;
  esac
done

if [ -n "${NATS_PEERS:-}" ]; then
  routes=''
  for peer in $(echo "$NATS_PEERS" | tr , ' '); do
    routes="${routes:+$routes, }\"nats://route:${NATS_CLUSTER_PASSWORD:?}@$peer\""
  done
  export NATS_ROUTES="[$routes]"
fi

exec "${NATS_SERVER:-nats-server}" "$@"
