# Runs nginx, and has it reload when Consul has other nodes. All paths are relative to the
# balancer's own directory, see `start`. Consul's address and token: CONSUL_HTTP_ADDR and
# CONSUL_HTTP_TOKEN.

kill_signal = "SIGTERM"

# A Consul that has lost its memory counts from the start, and would keep a question that waits for
# a higher number waiting for so long.
block_query_wait = "10s"

consul {
  # However long Consul is away, the last nodes stay.
  retry {
    attempts    = 0
    backoff     = "250ms"
    max_backoff = "5s"
  }
}

# Changes that come together are one reload.
wait {
  min = "500ms"
  max = "2s"
}

template {
  source      = "upstream.ctmpl"
  destination = "rendered.conf"
  exec {
    command = ["sh", "apply"]
    timeout = "20s"
  }
}

exec {
  command       = ["nginx", "-p", ".", "-c", "nginx.conf", "-g", "daemon off;"]
  reload_signal = "SIGHUP"
  kill_signal   = "SIGQUIT"
  kill_timeout  = "30s"
}
