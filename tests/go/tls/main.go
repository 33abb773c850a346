// A caller over TLS, or over plain text, which tells how a call and a stream went: one line of JSON,
// with the seq of what it sent and of what it heard first, or the code and the text of the error.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	message "parlance.dev/gen/parlance/message/v1"
)

const deadline = 10 * time.Second

type outcome struct {
	Seq  int64  `json:"seq"`
	Code string `json:"code"`
	Text string `json:"text"`
}

func of(seq int64, err error) outcome {
	end := status.Convert(err)
	return outcome{Seq: seq, Code: end.Code().String(), Text: end.Message()}
}

func send(ctx context.Context, channel *grpc.ClientConn, room string) outcome {
	content := &message.MessageContent{Text: "from Go"}
	request := &message.SendMessageRequest{RoomId: room, Content: content}
	reply, err := message.NewMessageServiceClient(channel).SendMessage(ctx, request)
	return of(reply.GetSeq(), err)
}

func follow(ctx context.Context, channel *grpc.ClientConn, room string) outcome {
	request := &message.SubscribeRequest{Rooms: []*message.RoomCursor{{RoomId: room, Cursor: &message.Cursor{}}}}
	call, err := message.NewStreamServiceClient(channel).Subscribe(ctx, request)
	for err == nil {
		var response *message.SubscribeResponse
		response, err = call.Recv()
		if seq := response.GetEvent().GetEvent().GetSeq(); seq != 0 {
			return of(seq, nil)
		}
	}
	return of(0, err)
}

func main() {
	address := flag.String("address", "", "where the server is")
	ca := flag.String("ca", "", "whom to trust; without it plain text is spoken")
	name := flag.String("name", "", "whom to take the server for")
	room := flag.String("room", "", "the room to write to")
	token := flag.String("token", "", "who we are")
	flag.Parse()
	trusted := insecure.NewCredentials()
	if *ca != "" {
		var err error
		if trusted, err = credentials.NewClientTLSFromFile(*ca, *name); err != nil {
			log.Fatal(err)
		}
	}
	channel, err := grpc.NewClient("passthrough:///"+*address, grpc.WithTransportCredentials(trusted))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+*token)
	sent, heard := send(ctx, channel, *room), follow(ctx, channel, *room)
	if err := json.NewEncoder(os.Stdout).Encode(map[string]outcome{"sent": sent, "heard": heard}); err != nil {
		log.Fatal(err)
	}
}
