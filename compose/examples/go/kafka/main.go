// Prints call events from Kafka: go run ./kafka [-servers 127.0.0.1:9092] [-count 10]
package main

import "context"
import "flag"
import "fmt"
import "github.com/segmentio/kafka-go"

func main() {
	servers, count := flag.String("servers", "127.0.0.1:9092", ""), flag.Int("count", 0, "how many; 0: for ever")
	flag.Parse()
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{*servers}, GroupID: "call-printer-go",
		Topic: "signalbox.call.v1", StartOffset: kafka.FirstOffset})
	for seen := map[string]bool{}; len(seen) == 0 || len(seen) != *count; {
		message, err := reader.FetchMessage(context.Background())
		event := map[string]string{} // message.Value is its data as JSON
		for _, header := range message.Headers {
			event[header.Key] = string(header.Value)
		}
		if identity := event["ce_source"] + event["ce_sequence"]; err == nil && !seen[identity] { // it may come twice
			seen[identity] = true
			fmt.Println(event["ce_id"], event["ce_type"], event["ce_tenantid"], event["ce_subject"])
		}
		if reader.CommitMessages(context.Background(), message) != nil {
			panic(err)
		}
	}
}
