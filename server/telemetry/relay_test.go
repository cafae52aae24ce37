package telemetry

import (
	"strings"
	"testing"

	"github.com/capguard/capguard/server/relay"
)

func TestTheRelaysFiguresAreExported(t *testing.T) {
	tel, err := New(t.Context(), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	var s relay.Stats
	if err := tel.WatchRelay(&s); err != nil {
		t.Fatal(err)
	}
	wants(t, page(t, tel), `capguard_relay_connections 0`, `capguard_relay_breaches_total{breach="continuations"} 0`)
	s.Connections.Add(7)
	s.OpenConnections.Add(2)
	s.BytesIn.Add(100)
	s.BytesOut.Add(200)
	s.MessagesIn.Add(3)
	s.MessagesOut.Add(4)
	s.ResetsIn.Add(5)
	s.ResetsOut.Add(6)
	s.Stalls.Add(8)
	s.WaitingBytes.Add(9)
	text := page(t, tel)
	wants(t, text,
		"# TYPE capguard_relay_connections gauge\n",
		"capguard_relay_connections 2\n",
		"capguard_relay_connections_accepted_total 7\n",
		"capguard_relay_io_bytes_total{direction=\"in\"} 100\n",
		"capguard_relay_io_bytes_total{direction=\"out\"} 200\n",
		"capguard_relay_messages_total{direction=\"in\"} 3\n",
		"capguard_relay_messages_total{direction=\"out\"} 4\n",
		"capguard_relay_resets_total{direction=\"in\"} 5\n",
		"capguard_relay_resets_total{direction=\"out\"} 6\n",
		"capguard_relay_stalls_total 8\n",
		"# TYPE capguard_relay_waiting_bytes gauge\n",
		"capguard_relay_waiting_bytes 9\n")
	for b := range s.AllBreaches {
		if !strings.Contains(text, `capguard_relay_breaches_total{breach="`+b.String()+`"}`) {
			t.Errorf("breach %s is not exported", b)
		}
	}
}
