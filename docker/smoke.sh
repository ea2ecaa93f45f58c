#!/bin/sh
# Proves the whole way from a request to a panel, with the containers that the tests cannot have:
#
#   docker compose -f docker/compose.yaml --profile elk up --build --wait && docker/smoke.sh
#
# The dashboard imported; 100 operations through the balancer, and one request that is refused, each
# counted once in Elasticsearch; every panel with something in it.
set -eu

cd "$(dirname "$0")/.."
lb=${QUORATE_URL:-http://127.0.0.1:8080}
run=$(date +%s)-$$

fail() {
  echo "smoke: $*" >&2
  exit 1
}

compose() {
  docker compose -f docker/compose.yaml --profile elk "$@"
}

# query METHOD PATH [BODY]: asks Elasticsearch from its own container. Whatever is on this script's
# standard input is not for Compose, which would take all of it.
query() {
  compose exec -T elasticsearch sh -c '
    set -- -sS --max-time 30 -X "$1" "http://localhost:9200$2" -H "content-type: application/json" \
      ${3:+--data-binary "$3"}
    [ "$ELK_SECURITY" = false ] || set -- "$@" -u "elastic:$(cat /secrets/elastic.password)"
    exec curl "$@"' query "$@" </dev/null
}

# kibana PATH
kibana() {
  compose exec -T elasticsearch sh -c '
    set -- -sS --max-time 30 "http://kibana:5601$1"
    [ "$ELK_SECURITY" = false ] || set -- "$@" -u "elastic:$(cat /secrets/elastic.password)"
    exec curl "$@"' kibana "$@" </dev/null
}

# ask METHOD KEY EXPECTED-STATUS [BODY]: prints the answer.
ask() {
  answer=$(curl -sS --max-time 10 -w '\n%{http_code}' -X "$1" "$lb/v1/$2" \
    -H "x-correlation-id: smoke-$run" -H 'content-type: application/json' ${4:+-d "$4"}) ||
    fail "$1 $2: no answer from $lb"
  [ "${answer##*
}" = "$3" ] || fail "$1 $2: $answer"
  printf '%s\n' "$answer"
}

state=$(compose ps -a --format '{{.Service}} {{.State}} {{.ExitCode}}' elk-kibana)
[ "$state" = "elk-kibana exited 0" ] || fail "the dashboard was not imported: $state"
compose logs --no-log-prefix elk-kibana | grep -q 'the dashboard is imported' ||
  fail "the dashboard was not imported"
kibana '/api/saved_objects/_find?type=dashboard&search_fields=title&search=Quorate' |
  grep -q '"id":"quorate"' || fail "Kibana does not know the dashboard"
echo "smoke: the dashboard is there"

echo "smoke: 25 sets, 25 updates, 25 gets, 25 deletes, 1 refusal"
ask GET "smoke-$run?quorum=many" 400 >/dev/null
n=0
while [ $n -lt 25 ]; do
  key="smoke-$run-$n"
  clock=$(ask POST "$key" 201 '{"value":"milk"}' | sed -n 's/.*"clock":"\([^"]*\)".*/\1/p')
  ask PUT "$key" 200 "{\"value\":\"tea\",\"clock\":\"$clock\"}" >/dev/null
  ask GET "$key" 200 >/dev/null
  ask DELETE "$key" 200 >/dev/null
  n=$((n + 1))
done

# counted ACTION: how many of this run's are in Elasticsearch.
counted() {
  query POST '/logs-quorate.node-*/_count' "{\"query\":{\"bool\":{\"filter\":[
    {\"term\":{\"trace.id\":\"smoke-$run\"}},{\"term\":{\"event.action\":\"$1\"}}]}}}" |
    sed -n 's/.*"count":\([0-9]*\).*/\1/p'
}

tries=0
for expected in 'set 25' 'update 25' 'get 25' 'delete 25' 'refused 1'; do
  action=${expected% *} times=${expected#* }
  until [ "$(counted "$action")" = "$times" ]; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || fail "$(counted "$action") of $times $action lines are in Elasticsearch"
    sleep 1
  done
  echo "smoke: $times $action lines"
done

# For every panel there must be something to show, by the events that it counts.
titles=$(sed -n 's/^{"type":"lens",.*"attributes":{"title":"\([^"]*\)".*/\1/p' docker/elk/dashboard.ndjson)
checked=0
while read -r title; do
  least=1
  case $title in
    "All actions" | "Actions per node" | "Ratio of actions" | "Latency by action" | "Outcomes" | \
      "Results" | "Siblings")
      terms='{"terms":{"event.action":["set","update","delete","get"]}}'
      ;;
    "Stored keys") terms='{"term":{"event.action":"keys-stored"}}' ;;
    "Refused requests") terms='{"term":{"event.action":"refused"}}' ;;
    "Count of active nodes" | "State timeline" | "Hints pending")
      terms='{"term":{"event.action":"heartbeat"}},{"range":{"@timestamp":{"gte":"now-15s"}}}'
      ;;
    "Errors and warnings")
      terms='{"terms":{"log.level":["warn","error","critical"]}}'
      # There may have been none.
      least=0
      ;;
    *) fail "what should the panel \"$title\" show?" ;;
  esac
  hits=$(query POST '/logs-quorate.*-*/_count' "{\"query\":{\"bool\":{\"filter\":[$terms]}}}" |
    sed -n 's/.*"count":\([0-9]*\).*/\1/p')
  [ "${hits:--1}" -ge $least ] || fail "the panel \"$title\" is empty"
  echo "smoke: \"$title\" has $hits lines"
  checked=$((checked + 1))
done <<END
$titles
END
panels=$(grep -c '^{"type":"lens"' docker/elk/dashboard.ndjson)
[ "$checked" = "$panels" ] || fail "only $checked of $panels panels were looked at"
echo "smoke: all $panels panels are well"
