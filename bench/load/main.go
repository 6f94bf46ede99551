// Settles orders over gRPC, one call for each, and prints what it saw as JSON.
//
// The two messages are encoded by hand: what the generator does not spend, the server that it measures has.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const method = "/paymentsapi.PaymentsApi/UpdatePaymentStatus"

// bytesCodec takes a request that is encoded already, and looks at no answer: it is google.protobuf.Empty.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (bytesCodec) Unmarshal(mem.BufferSlice, any) error { return nil }
func (bytesCodec) Name() string                         { return "proto" }

// PayStatus { int64 order_id = 1; bool status = 2; }, the status true
func payStatus(order uint64) []byte {
	return append(binary.AppendUvarint([]byte{1 << 3}, order), 2<<3, 1)
}

// bearer sends a token with each call.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}
func (bearer) RequireTransportSecurity() bool { return true }

// secured trusts the authority of one file and sends the token of another. Without files: plaintext.
func secured(ca, token string) []grpc.DialOption {
	if ca == "" {
		return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content(ca))
	return []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})),
		grpc.WithPerRPCCredentials(bearer(bytes.TrimSpace(content(token)))),
	}
}

func content(file string) []byte {
	read, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	return read
}

func cpuMicros() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e3
}

func main() {
	target := flag.String("target", "", "host:port")
	first := flag.Uint64("first", 1, "first order")
	count := flag.Int("count", 1, "orders, one call each")
	callers := flag.Int("callers", 1, "calls under way at a time")
	rate := flag.Float64("rate", 0, "calls a second; 0: as fast as they are answered")
	ca := flag.String("ca", "", "file of the authority that the server's certificate is from; empty: plaintext")
	token := flag.String("token", "", "file of the token to send; with -ca")
	flag.Parse()

	// as many connections as a handful of client processes would have
	connections := make([]*grpc.ClientConn, min(4, *callers))
	for i := range connections {
		connection, err := grpc.NewClient(*target,
			append(secured(*ca, *token), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})))...)
		if err != nil {
			panic(err)
		}
		defer connection.Close()
		connections[i] = connection
	}

	var next, ok atomic.Int64
	var all sync.WaitGroup
	took := make([]time.Duration, *count)
	cpu, began := cpuMicros(), time.Now()
	for caller := range *callers {
		all.Add(1)
		go func() {
			defer all.Done()
			connection := connections[caller%len(connections)]
			for {
				i := next.Add(1) - 1
				if i >= int64(*count) {
					return
				}
				if *rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(float64(i) / *rate * 1e9))))
				}
				since := time.Now()
				limited, done := context.WithTimeout(context.Background(), 20*time.Second)
				if connection.Invoke(limited, method, payStatus(*first+uint64(i)), nil, grpc.WaitForReady(true)) == nil {
					ok.Add(1)
				}
				done()
				took[i] = time.Since(since)
			}
		}()
	}
	all.Wait()
	seconds := time.Since(began).Seconds()

	slices.Sort(took)
	millis := func(share float64) float64 {
		return float64(took[max(0, int(share*float64(len(took)))-1)].Nanoseconds()) / 1e6
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"calls": *count, "ok": ok.Load(), "rate": float64(*count) / seconds,
		"p50": millis(0.5), "p99": millis(0.99), "cpu": (cpuMicros() - cpu) / float64(*count),
	})
}
