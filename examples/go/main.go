// Cashier pays every order whose payment waits: it follows topic payment and calls the gRPC server.
//
//	go run . [-order 300]    with -order it ends when that order is paid or refused
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "payments/examples/go/paymentsapi"
)

// event is the value of a record of topic payment: docs/schemas/payment.json.
type event struct {
	IdempotentKey string `json:"idempotent_key"`
	OrderID       int64  `json:"order_id"`
	Status        string `json:"status"`
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

// reason is the reason in the google.rpc.ErrorInfo of a refused call.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

// pay pays an order. A record that comes again leads to the same call again, which changes nothing.
func pay(ctx context.Context, payments pb.PaymentsApiClient, order int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := payments.UpdatePaymentStatus(ctx, &pb.PayStatus{OrderId: order, Status: true})
	if status.Code(err) == codes.FailedPrecondition {
		// refused or expired meanwhile: its event says so
		fmt.Printf("order %d is not paid: %s\n", order, reason(err))
		return nil
	}
	return err
}

func run() error {
	until := flag.Int64("order", 0, "end when this order is paid or refused")
	config := flag.String("service-config", "../../proto/payments_grpc_service_config.json", "file with the retry policy")
	flag.Parse()
	ctx := context.Background()

	retries, err := os.ReadFile(*config)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(
		setting("GRPC_ADDR", "localhost:8081"),
		// with TLS: credentials.NewClientTLSFromFile("ca.crt", ""), and the token by grpc.WithPerRPCCredentials
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(retries)),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	payments := pb.NewPaymentsApiClient(connection)

	// a service would name a group (kgo.ConsumerGroup), and commit an offset after the call
	topic, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(setting("KAFKA_BROKERS", "localhost:9095"), ",")...),
		kgo.ConsumeTopics(setting("PAYMENT_TOPIC", "payment")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer topic.Close()

	for {
		fetched := topic.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			return err
		}
		for _, record := range fetched.Records() {
			var seen event
			if err := json.Unmarshal(record.Value, &seen); err != nil {
				return fmt.Errorf("%s/%d@%d: %w", record.Topic, record.Partition, record.Offset, err)
			}
			if *until != 0 && seen.OrderID != *until {
				continue
			}
			fmt.Printf("order %d %s\n", seen.OrderID, seen.Status)
			if seen.Status == "CREATED" {
				if err := pay(ctx, payments, seen.OrderID); err != nil {
					return err
				}
			} else if *until != 0 {
				return nil
			}
		}
	}
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
