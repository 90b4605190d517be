// Reads what sheaf-gateway has of a topic.
//
//	go mod init example && go get github.com/apache/arrow-go/v18
//	go run read_topic.go localhost:8080 logs
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	server, topic := os.Args[1], os.Args[2]
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	client, err := flight.NewClientWithMiddleware(server, nil, nil, plain)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// One ticket for the whole topic. "topics/logs?from=1200&follow=true" is one too.
	ctx := context.Background()
	descriptor := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{topic}}
	info, err := client.GetFlightInfo(ctx, descriptor)
	if err != nil {
		log.Fatal(err)
	}
	stream, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
	if err != nil {
		log.Fatal(err)
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Release()
	for reader.Next() {
		fmt.Println(reader.Record())
	}
	if err := reader.Err(); err != nil {
		log.Fatal(err)
	}
}
