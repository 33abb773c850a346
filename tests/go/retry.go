package main

import (
	"errors"
	"io"
	mathrand "math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// again says whether to go on after the end of a stream or a call, and how long the server asks
// to wait. With a token that is renewed, Unauthenticated would be among them.
func again(err error) (bool, time.Duration) {
	if errors.Is(err, io.EOF) {
		return true, 0
	}
	answered, after := false, time.Duration(0)
	refusal := status.Convert(err)
	for _, detail := range refusal.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			answered = true
		case *errdetails.RetryInfo:
			after = detail.GetRetryDelay().AsDuration()
		}
	}
	switch refusal.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return true, after
	case codes.Unknown, codes.Internal, codes.Canceled:
		return !answered, after
	default:
		return false, 0
	}
}

// wait lets a pause with jitter pass, or what the server asked for, and gives the next pause.
func wait(pause, asked time.Duration) time.Duration {
	time.Sleep(max(asked, pause/2+mathrand.N(pause/2)))
	return min(2*pause, longestPause)
}
