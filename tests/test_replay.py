from replay import Replay, dialogues


def test_a_replayed_conversation_reaches_every_subscriber_once_and_in_order(server, chance):
    """B-100, B-123, B-124, B-137, B-144: history, streams and unread agree on a real
    conversation while subscribers drop their streams and resume."""
    topics = dialogues(limit=6)
    some = ["ai", "botprofile", "greetings", "humor"]
    replay = Replay(server, {name: topics[name] for name in some}, chance.randrange(2**32))
    summary = replay.run()
    print(summary)
    assert summary.lines > 40
    assert summary.drops > 0, "no stream was dropped: nothing was resumed"
