#!/bin/sh
# Proves the whole way from a request to a panel, with the containers that the tests cannot have:
#
#   docker compose -f docker/compose.yaml --profile elk up --build --wait && docker/smoke.sh
#
# 100 operations through the balancer; each counted once in Elasticsearch; the dashboard imported;
# every panel with something in it.
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

# query METHOD PATH [BODY]: asks Elasticsearch from its own container.
query() {
  compose exec -T elasticsearch sh -c '
    set -- -sS --max-time 30 -X "$1" "http://localhost:9200$2" -H "content-type: application/json" \
      ${3:+--data-binary "$3"}
    [ "$ELK_SECURITY" = false ] || set -- "$@" -u "elastic:$(cat /secrets/elastic.password)"
    exec curl "$@"' query "$@"
}

# kibana PATH
kibana() {
  compose exec -T elasticsearch sh -c '
    set -- -sS --max-time 30 "http://kibana:5601$1"
    [ "$ELK_SECURITY" = false ] || set -- "$@" -u "elastic:$(cat /secrets/elastic.password)"
    exec curl "$@"' kibana "$@"
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

echo "smoke: 25 sets, 25 updates, 25 gets, 25 deletes"
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
for action in set update get delete; do
  until [ "$(counted $action)" = 25 ]; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || fail "$(counted $action) of 25 $action lines are in Elasticsearch"
    sleep 2
  done
  echo "smoke: 25 $action lines"
done

state=$(compose ps -a --format '{{.Service}} {{.ExitCode}}' elk-kibana)
[ "$state" = "elk-kibana 0" ] || fail "the dashboard was not imported: $state"
compose logs --no-log-prefix elk-kibana | grep -q 'the dashboard is imported' ||
  fail "the dashboard was not imported"
kibana '/api/saved_objects/_find?type=dashboard&search_fields=title&search=Quorate' |
  grep -q '"id":"quorate"' || fail "Kibana does not know the dashboard"
echo "smoke: the dashboard is there"

# For every panel there must be something to show, by the events that it counts; those about trouble need not have any.
grep '"type":"lens"' docker/elk/dashboard.ndjson | while read -r panel; do
  title=$(printf '%s' "$panel" | sed 's/.*"attributes":{"title":"\([^"]*\)".*/\1/')
  case $title in
    "All actions" | "Actions per node" | "Ratio of actions" | "Latency by action" | "Outcomes" | \
      "Results" | "Siblings")
      terms='{"terms":{"event.action":["set","update","delete","get"]}}'
      ;;
    "Stored keys") terms='{"term":{"event.action":"keys-stored"}}' ;;
    "Count of active nodes" | "State timeline" | "Hints pending")
      terms='{"term":{"event.action":"heartbeat"}},{"range":{"@timestamp":{"gte":"now-15s"}}}'
      ;;
    *) continue ;;
  esac
  hits=$(query POST '/logs-quorate.*-*/_count' "{\"query\":{\"bool\":{\"filter\":[$terms]}}}" |
    sed -n 's/.*"count":\([0-9]*\).*/\1/p')
  [ "${hits:-0}" -gt 0 ] || fail "the panel \"$title\" is empty"
  echo "smoke: \"$title\" has $hits lines"
done
echo "smoke: all well"
