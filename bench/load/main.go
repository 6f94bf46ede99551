// Settles orders over gRPC, one call for each, and prints what it saw as JSON.
//
// The two messages are encoded by hand: what the generator does not spend, the server that it measures has.
package main

import (
	"context"
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
	flag.Parse()

	// as many connections as a handful of client processes would have
	connections := make([]*grpc.ClientConn, min(4, *callers))
	for i := range connections {
		connection, err := grpc.NewClient(*target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})))
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
