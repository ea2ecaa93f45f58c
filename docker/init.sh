#!/bin/sh
# Runs once before the rest of compose.yaml (`init.sh secrets`) or host.yaml (`init.sh host`).
# Secrets are made when they are not there, and never again.
set -eu

# Who the node is in its image.
NODE=10001:10001
SECRETS="cluster.secret admin.token"

fail() {
    echo "init: $*" >&2
    exit 1
}

random() {
    head -c 32 /dev/urandom | base64
}

make_secrets() {
    for secret in "$@"; do
        [ -s "/secrets/$secret" ] && continue
        (umask 077 && random >"/secrets/$secret.new")
        mv "/secrets/$secret.new" "/secrets/$secret"
        echo "init: made $secret"
    done
}

give_secrets() {
    chmod 0711 /secrets
    for secret in $SECRETS; do
        chown "$NODE" "/secrets/$secret"
        chmod 0400 "/secrets/$secret"
    done
}

# Where the other hosts reach this one: the address it speaks to the first of them from.
own_address() {
    ip -4 route get "$1" | sed -n 's/.* src \([0-9.]*\).*/\1/p'
}

# "a", "b", "c" of `a b c`, each with what follows the first argument.
quoted() {
    after=$1 list=
    shift
    for word in "$@"; do
        list="$list${list:+, }\"$word$after\""
    done
    echo "$list"
}

consul_config() {
    cat <<END
{
  "node_name": "$name",
  "bind_addr": "$address",
  "client_addr": "127.0.0.1",
  "encrypt": "$(cat /secrets/gossip.key)",
  "retry_join": [$(quoted "" "$@")],
  "performance": {"raft_multiplier": 1},
  "dns_config": {"only_passing": true, "enable_truncate": true},
  $serves
}
END
}

node_config() {
    cat <<END
name = "$name"
advertise-client = "$address:8080"
advertise-admin = "$admin:8081"
advertise-peer = "$address:8082"
seeds = [$(quoted :8082 "$@")]
END
}

host() {
    # shellcheck disable=SC2086
    set -- $(echo "${CONSUL_SERVERS:-}" | tr ',' ' ')
    [ $# -gt 0 ] || fail "CONSUL_SERVERS is empty: copy .env.example to .env and set it"
    case $# in
        1 | 3 | 5) ;;
        *) fail "CONSUL_SERVERS names $# hosts; it must be 1, 3 or 5, the same on every host" ;;
    esac
    name=${QUORATE_NAME:-$(hostname)}
    address=${QUORATE_ADDRESS:-$(own_address "$1")}
    [ -n "$address" ] || fail "there is no way from here to $1: set QUORATE_ADDRESS in .env"
    admin=${QUORATE_ADMIN_LISTEN:-127.0.0.1}
    [ "$admin" != 0.0.0.0 ] || admin=$address
    serves='"leave_on_terminate": true'
    for server in "$@"; do
        [ "$server" = "$address" ] && serves="\"server\": true, \"bootstrap_expect\": $#"
    done
    if [ "$address" = "$1" ]; then
        make_secrets $SECRETS gossip.key
    fi
    for secret in $SECRETS gossip.key; do
        [ -s "/secrets/$secret" ] ||
            fail "secrets/$secret is not here: copy the folder secrets from $1, where it was made"
    done
    give_secrets
    consul_config "$@" >/consul-config/host.json
    node_config "$@" >/node-config/quorate.toml
    echo "init: this host is $name, $address"
}

case ${1:-} in
    secrets)
        # shellcheck disable=SC2086
        make_secrets $SECRETS
        give_secrets
        ;;
    host) host ;;
    *) fail "say secrets or host" ;;
esac
