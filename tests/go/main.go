// A client of Parlance in Go: what docs/clients.md asks for, and code generated from proto/.
//
// It follows a room from its first event and prints each event that it handles; every line of its
// input is sent to the room. Now and then it drops its stream. It ends when its input does.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"log"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	message "parlance.dev/gen/parlance/message/v1"
)

const longSilence = 60 * time.Second

// line is what is printed, as JSON: one of its forms.
type line map[string]any

type peer struct {
	room     string
	streams  message.StreamServiceClient
	messages message.MessageServiceClient
	printing sync.Mutex
}

func (p *peer) print(l line) {
	p.printing.Lock()
	defer p.printing.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
		log.Fatal(err)
	}
}

// connect opens one channel to all replicas, with the service config of the installation.
func connect(addresses, config string) (*grpc.ClientConn, error) {
	found := manual.NewBuilderWithScheme("parlance")
	state := resolver.State{}
	for _, address := range strings.Split(addresses, ",") {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	found.InitialState(state)
	return grpc.NewClient("parlance:///parlance",
		grpc.WithResolvers(found),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}))
}

// send sends a text until it is answered, always with the same request id.
func (p *peer) send(ctx context.Context, text string) error {
	request := &message.SendMessageRequest{
		RoomId:    p.room,
		Content:   &message.MessageContent{Text: text},
		RequestId: rand.Text(),
	}
	for pause := firstPause; ; {
		reply, err := p.messages.SendMessage(ctx, request)
		if err == nil {
			p.print(line{"sent": reply.GetSeq(), "text": text})
			return nil
		}
		retry, asked := again(err)
		if !retry {
			return err
		}
		pause = wait(pause, asked)
	}
}

// follow subscribes again and again, each time with the cursor.
func (p *peer) follow(ctx context.Context) error {
	cursor, pause := &message.Cursor{}, firstPause
	for {
		before := cursor.GetSeq()
		asked, err := p.stream(ctx, cursor)
		if err != nil {
			retry, after := again(err)
			if !retry {
				return err
			}
			p.print(line{"ended": status.Code(err).String()})
			asked = max(asked, after)
		}
		if cursor.GetSeq() > before {
			pause = firstPause
		}
		pause = wait(pause, asked)
	}
}

// stream is one stream until its end, and how long the server then asks to wait. The cursor stands
// behind what was handled: where it would be stored, that would happen here.
func (p *peer) stream(ctx context.Context, cursor *message.Cursor) (asked time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(longSilence, cancel)
	defer silence.Stop()
	call, err := p.streams.Subscribe(ctx, &message.SubscribeRequest{
		Rooms: []*message.RoomCursor{{RoomId: p.room, Cursor: cursor}},
	})
	if err != nil {
		return 0, err
	}
	length := 10 + mathrand.IntN(20)
	for handled := 0; handled < length; {
		response, err := call.Recv()
		if err != nil {
			return asked, err
		}
		silence.Reset(longSilence)
		switch frame := response.GetFrame().(type) {
		case *message.SubscribeResponse_Attached:
			cursor.Epoch = frame.Attached.GetEpoch()
			moveTo(cursor, frame.Attached.GetResumeFrom(), nil)
			if server, known := grpcpeer.FromContext(call.Context()); known {
				p.print(line{"stream": server.Addr.String(), "length": length})
			}
		case *message.SubscribeResponse_Event:
			event := frame.Event.GetEvent()
			if event.GetSeq() <= cursor.GetSeq() {
				continue
			}
			p.print(line{"seq": event.GetSeq(), "actor": event.GetActorId(),
				"text": event.GetMessageSent().GetContent().GetText()})
			moveTo(cursor, event.GetSeq(), event.GetTime())
			handled++
		case *message.SubscribeResponse_Skipped:
			moveTo(cursor, frame.Skipped.GetToSeq(), nil)
		case *message.SubscribeResponse_Reset_:
			p.print(line{"reset": frame.Reset_.GetKeepThrough()})
			cursor.Epoch = frame.Reset_.GetEpoch()
			moveTo(cursor, frame.Reset_.GetResumeFrom(), nil)
		case *message.SubscribeResponse_Closed:
			return 0, status.Error(codes.NotFound, "the room is closed to us")
		case *message.SubscribeResponse_GoAway:
			asked = frame.GoAway.GetAfter().AsDuration()
		}
	}
	p.print(line{"dropped": cursor.GetSeq()})
	return 0, nil
}

// moveTo sets the position of a cursor. The time is that of the event there, if it is known.
func moveTo(cursor *message.Cursor, seq int64, at *timestamppb.Timestamp) {
	if cursor.GetSeq() != seq {
		cursor.Seq, cursor.Time = seq, at
	}
}

func main() {
	addresses := flag.String("addresses", "", "replicas of message, separated by commas")
	config := flag.String("service-config", "", "deploy/grpc-service-config.json")
	room := flag.String("room", "", "the room to follow")
	token := flag.String("token", "", "who we are")
	flag.Parse()
	text, err := os.ReadFile(*config)
	if err != nil {
		log.Fatal(err)
	}
	channel, err := connect(*addresses, string(text))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+*token)
	p := &peer{
		room:     *room,
		streams:  message.NewStreamServiceClient(channel),
		messages: message.NewMessageServiceClient(channel),
	}
	go func() { log.Fatal(p.follow(ctx)) }()
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		if err := p.send(ctx, input.Text()); err != nil {
			log.Fatal(err)
		}
	}
}
