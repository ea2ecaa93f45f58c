#!/bin/sh
# Prepares the ELK profile; every step may be repeated, and every answer is looked at.
#
#   init.sh passwords      makes the passwords, once
#   init.sh elasticsearch  users, mappings and the template of the data stream
#   init.sh kibana         the data view and the dashboard
#   init.sh run USER CMD…  runs a program that wants a password in its environment
set -eu

secrets=${SECRETS:-/secrets}
here=${FILES:-/elk}
security=${ELK_SECURITY:-true}

fail() {
  echo "init.sh: $*" >&2
  exit 1
}

password() {
  cat "$secrets/$1.password"
}

# 32 letters and digits of the kernel's random numbers.
make_passwords() {
  umask 077
  for user in elastic kibana_system quorate_logstash encryption; do
    file="$secrets/$user.password"
    if [ ! -s "$file" ]; then
      tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32 >"$file.new"
      mv "$file.new" "$file"
    fi
  done
  # Elasticsearch insists on both: its own user, and nobody else's eyes.
  chown 1000:0 "$secrets"/*.password
  chmod 600 "$secrets"/*.password
}

# call METHOD URL BODY-FILE [CURL ARGUMENTS]: prints the answer, and fails unless it is 2xx.
call() {
  method=$1 url=$2 body=$3
  shift 3
  answer=$(mktemp)
  set -- "$@" -sS --max-time 60 -o "$answer" -w '%{http_code}' -X "$method"
  if [ -n "$body" ]; then
    set -- "$@" -H 'content-type: application/json' --data-binary "@$body"
  fi
  if [ "$security" = true ]; then
    set -- "$@" -u "elastic:$(password elastic)"
  fi
  status=$(curl "$@" "$url") || fail "$method $url: no answer"
  case $status in
    2*) cat "$answer" ;;
    *) fail "$method $url: $status $(cat "$answer")" ;;
  esac
  rm -f "$answer"
}

# The same with the body in an argument.
call_with() {
  text=$(mktemp)
  printf '%s' "$3" >"$text"
  call "$1" "$2" "$text"
  rm -f "$text"
}

acknowledged() {
  case $1 in
    *'"acknowledged":true'*) ;;
    *) fail "not acknowledged: $1" ;;
  esac
}

prepare_elasticsearch() {
  es=${ELASTICSEARCH_URL:-http://elasticsearch:9200}
  if [ "$security" = true ]; then
    call_with POST "$es/_security/user/kibana_system/_password" \
      "{\"password\":\"$(password kibana_system)\"}" >/dev/null
    call_with PUT "$es/_security/role/quorate_logstash" '{
      "cluster": ["monitor"],
      "indices": [{
        "names": ["logs-quorate.*-*"],
        "privileges": ["create_doc", "auto_configure", "view_index_metadata"]
      }]}' >/dev/null
    call_with PUT "$es/_security/user/quorate_logstash" \
      "{\"password\":\"$(password quorate_logstash)\",\"roles\":[\"quorate_logstash\"]}" >/dev/null
  fi
  acknowledged "$(call PUT "$es/_component_template/quorate-mappings" "$here/component.json")"
  acknowledged "$(call PUT "$es/_index_template/quorate-logs" "$here/template.json")"
  echo "Elasticsearch is prepared"
}

# An import answers 200 even if it takes only some of the objects, or none.
prepare_kibana() {
  kibana=${KIBANA_URL:-http://kibana:5601}
  objects=$(grep -c . "$here/dashboard.ndjson")
  answer=$(call POST "$kibana/api/saved_objects/_import?overwrite=true" '' \
    -H 'kbn-xsrf: true' -F "file=@$here/dashboard.ndjson")
  case $answer in
    *'"success":true'*) ;;
    *) fail "the dashboard was not imported: $answer" ;;
  esac
  case $answer in
    *"\"successCount\":$objects"[,}]*) ;;
    *) fail "not all $objects objects were imported: $answer" ;;
  esac
  echo "the dashboard is imported: $objects objects"
}

run() {
  case $1 in
    kibana_system)
      ELASTICSEARCH_PASSWORD=$(password kibana_system)
      XPACK_ENCRYPTEDSAVEDOBJECTS_ENCRYPTIONKEY=$(password encryption)
      export ELASTICSEARCH_PASSWORD XPACK_ENCRYPTEDSAVEDOBJECTS_ENCRYPTIONKEY
      ;;
    quorate_logstash)
      LOGSTASH_PASSWORD=$(password quorate_logstash)
      export LOGSTASH_PASSWORD
      ;;
    *) fail "no such user: $1" ;;
  esac
  shift
  exec "$@"
}

case ${1:-} in
  passwords) make_passwords ;;
  elasticsearch) prepare_elasticsearch ;;
  kibana) prepare_kibana ;;
  run)
    shift
    run "$@"
    ;;
  *) fail "usage: init.sh passwords | elasticsearch | kibana | run USER COMMAND…" ;;
esac
