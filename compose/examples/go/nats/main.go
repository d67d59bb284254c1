// Prints call events from NATS JetStream: go run ./nats [-url nats://127.0.0.1:4222] [-count 10]
package main

import "encoding/json"
import "flag"
import "fmt"
import "github.com/nats-io/nats.go"

func main() {
	url, count := flag.String("url", nats.DefaultURL, "server"), flag.Int("count", 0, "how many; 0: for ever")
	flag.Parse()
	messages, seen := make(chan *nats.Msg, 256), map[string]bool{}
	connection, err := nats.Connect(*url)
	if err == nil { // An ordered consumer leaves nothing on the server. To go on after a restart, keep the last
		jetstream, _ := connection.JetStream() // message's Metadata().Sequence.Stream: nats.StartSequence(n + 1).
		_, err = jetstream.ChanSubscribe("signalbox.v1.call.>", messages, nats.OrderedConsumer())
	}
	for err == nil && (len(seen) == 0 || len(seen) != *count) {
		var event struct{ ID, Type, Source, Sequence, TenantID, Subject string }
		err = json.Unmarshal((<-messages).Data, &event)
		if identity := event.Source + event.Sequence; !seen[identity] { // a bus may deliver an event twice
			seen[identity] = true
			fmt.Println(event.ID, event.Type, event.TenantID, event.Subject)
		}
	}
	if err != nil {
		panic(err)
	}
}
