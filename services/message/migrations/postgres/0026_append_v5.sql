-- Appends messages, sorted by log, in one call and so in one transaction that no
-- paused client can hold open. Each statement of a function takes a snapshot of its
-- own: what is read after a head is locked is what held when it was locked. Probes
-- by index in a loop need no statistics of the planner.
--
-- Never replaced: a change is a function of another name, so that two versions of
-- the service can run side by side.
--
-- Verdicts: 0 stored, 1 stored before, 2 request id used with another payload,
-- 3 no such log, 4 log closed, 5 not a member, 6 only owners and admins may send,
-- 7 muted until r_time, 8 blocked by the other member of a direct room, 9 suspended
-- until r_time, 10 in slow mode until r_time, 11 an attachment cannot be attached.
--
-- Of a reply p_roots says what its thread began with. p_mentions are ids of users, a line
-- each; U+0001 stands for everybody. p_expires is how long a message is there; NULL: for ever.
-- p_judged tells whether it is for the log to judge what the sender may: it is not where they
-- are nobody, and where a backend brings in what they wrote elsewhere. p_attachments are ids of
-- what the sender has uploaded in the room and the message is to hold, a line each.
CREATE FUNCTION append_messages_v5(
    p_now BIGINT,
    p_logs UUID[],
    p_senders TEXT[],
    p_requests TEXT[],
    p_digests BYTEA[],
    p_counted BOOLEAN[],
    p_payloads BYTEA[],
    p_roots BIGINT[],
    p_mentions TEXT[],
    p_expires BIGINT[],
    p_judged BOOLEAN[],
    p_attachments TEXT[]
) RETURNS TABLE (
    r_verdict SMALLINT,
    r_seq BIGINT,
    r_time BIGINT,
    r_epoch TEXT,
    r_tenant TEXT,
    r_room TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    v_count CONSTANT INT := cardinality(p_logs);
    v_at INT := 1;
    v_log UUID;
    v_kind SMALLINT;
    v_head BIGINT;
    v_seq BIGINT;
    v_time BIGINT;
    v_ord BIGINT;
    v_closed BIGINT;
    v_post_rule SMALLINT;
    v_log_epoch BIGINT;
    v_epoch BIGINT;
    v_epoch_id TEXT;
    v_digest BYTEA;
    v_role SMALLINT;
    v_muted BIGINT;
    v_suspended BIGINT;
    v_blocked BOOLEAN;
    v_slow_mode BIGINT;
    v_sent BIGINT;
    v_mention BIGINT;
    v_late BIGINT;
    v_due BIGINT;
    v_replies BOOLEAN := FALSE;
    v_mentions BOOLEAN := FALSE;
    v_uploads UUID[];
    v_found BIGINT;
    -- What is to be stored: index of the entry, and its place.
    v_indexes INT[] := '{}';
    v_seqs BIGINT[] := '{}';
    v_times BIGINT[] := '{}';
    v_ords BIGINT[] := '{}';
BEGIN
    WHILE v_at <= v_count LOOP
        v_log := p_logs[v_at];
        SELECT h.tenant_id, h.room_id, h.kind, h.head, greatest(h.head_time, p_now), h.ord,
               h.closed_seq, h.post_rule, h.epoch, h.slow_mode, h.mention_seq
          INTO r_tenant, r_room, v_kind, v_head, v_time, v_ord, v_closed, v_post_rule, v_log_epoch,
               v_slow_mode, v_mention
          FROM heads h WHERE h.log_id = v_log FOR UPDATE;
        SELECT e.number, e.epoch_id INTO v_epoch, v_epoch_id
          FROM epochs e ORDER BY e.number DESC LIMIT 1;
        v_seq := v_head;
        v_due := NULL;

        WHILE v_at <= v_count AND p_logs[v_at] = v_log LOOP
            r_verdict := 0;
            r_seq := NULL;
            r_time := NULL;
            r_epoch := NULL;
            v_uploads := NULL;
            IF v_head IS NOT NULL AND p_attachments[v_at] IS NOT NULL THEN
                -- What removes attachments takes no lock of a head: these rows are held.
                v_uploads := string_to_array(p_attachments[v_at], E'\n')::UUID[];
                SELECT count(*) INTO v_found
                  FROM (SELECT 1 FROM attachments a
                         WHERE a.log_id = v_log AND a.attachment_id = ANY (v_uploads)
                           AND a.user_id = p_senders[v_at] AND a.sha256 IS NOT NULL
                           AND a.message_seq IS NULL AND NOT a.ended FOR UPDATE) held;
            END IF;
            IF v_head IS NULL THEN
                r_verdict := 3;
            ELSE
                -- A repeat before rights: it gets its first reply whatever happened since.
                SELECT e.seq, e.time, e.digest INTO r_seq, r_time, v_digest FROM events e
                 WHERE e.log_id = v_log AND e.sender_id = p_senders[v_at]
                   AND e.request_id = p_requests[v_at];
                IF FOUND THEN
                    IF v_digest = p_digests[v_at] THEN
                        r_verdict := 1;
                        SELECT e.epoch_id INTO r_epoch
                          FROM log_epochs l JOIN epochs e ON e.number = l.epoch
                         WHERE l.log_id = v_log AND l.first_seq <= r_seq
                         ORDER BY l.first_seq DESC LIMIT 1;
                    ELSE
                        r_verdict := 2;
                    END IF;
                ELSIF v_closed IS NOT NULL THEN
                    r_verdict := 4;
                ELSIF v_found < cardinality(v_uploads) THEN
                    r_verdict := 11;
                ELSIF p_judged[v_at] THEN
                    SELECT m.role, m.muted_until, m.suspended_until, m.peer_blocked, m.sent_time
                      INTO v_role, v_muted, v_suspended, v_blocked, v_sent FROM members m
                     WHERE m.log_id = v_log AND m.user_id = p_senders[v_at];
                    IF NOT FOUND THEN
                        -- Strangers do not learn that a direct room is there.
                        r_verdict := CASE WHEN v_kind = 1 THEN 3 ELSE 5 END;
                    ELSIF v_suspended > p_now THEN
                        r_verdict := 9;
                        r_time := v_suspended;
                    ELSIF v_post_rule = 2 AND v_role < 2 THEN
                        r_verdict := 6;
                    ELSIF v_muted > p_now THEN
                        r_verdict := 7;
                        r_time := v_muted;
                    ELSIF v_blocked THEN
                        r_verdict := 8;
                    ELSIF v_slow_mode > 0 AND v_role < 2 THEN
                        IF v_sent > 0 AND v_sent + v_slow_mode > v_time THEN
                            r_verdict := 10;
                            r_time := v_sent + v_slow_mode;
                        ELSE
                            UPDATE members m SET sent_time = v_time
                             WHERE m.log_id = v_log AND m.user_id = p_senders[v_at];
                        END IF;
                    END IF;
                END IF;
            END IF;
            IF r_verdict = 0 THEN
                v_seq := v_seq + 1;
                IF p_counted[v_at] THEN
                    v_ord := v_ord + 1;
                END IF;
                r_seq := v_seq;
                r_time := v_time;
                r_epoch := v_epoch_id;
                v_indexes := v_indexes || v_at;
                v_seqs := v_seqs || v_seq;
                v_times := v_times || v_time;
                v_ords := v_ords || v_ord;
                IF p_roots[v_at] IS NOT NULL THEN
                    v_replies := TRUE;
                END IF;
                IF p_mentions[v_at] IS NOT NULL THEN
                    v_mentions := TRUE;
                    v_mention := v_seq;
                END IF;
                IF v_uploads IS NOT NULL THEN
                    UPDATE attachments a SET message_seq = v_seq
                     WHERE a.log_id = v_log AND a.attachment_id = ANY (v_uploads);
                END IF;
                -- The least of those that are there.
                v_due := least(v_due, v_time + p_expires[v_at]);
            END IF;
            RETURN NEXT;
            v_at := v_at + 1;
        END LOOP;

        IF v_seq > v_head THEN
            IF v_log_epoch < v_epoch THEN
                INSERT INTO log_epochs (log_id, epoch, first_seq)
                VALUES (v_log, v_epoch, v_head + 1);
            END IF;
            UPDATE heads SET head = v_seq, head_time = v_time, ord = v_ord,
                   message_time = v_time, epoch = v_epoch, mention_seq = v_mention
             WHERE log_id = v_log;
        END IF;
        IF v_due IS NOT NULL THEN
            INSERT INTO expiries (log_id, due) VALUES (v_log, v_due)
            ON CONFLICT (log_id) DO UPDATE SET due = excluded.due
             WHERE expiries.due > excluded.due;
        END IF;
    END LOOP;

    -- Answering is reading, so that the sender's row is written; what was answered elsewhere and
    -- counts for nobody is not. A suspension takes no lock of a head: of one that came after a
    -- sender was judged, it is this row that tells, and all is judged anew.
    --
    -- A message alone, as most are where little is sent, takes two plain statements. Many share
    -- two that are dearer to begin.
    IF cardinality(v_indexes) = 1 THEN
        v_at := v_indexes[1];
        v_log := p_logs[v_at];
        INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, digest,
                            counted, payload, root_seq, expire_time)
        VALUES (v_log, v_seqs[1], v_times[1], v_ords[1], 1, p_senders[v_at], p_requests[v_at],
                p_digests[v_at], p_counted[v_at], p_payloads[v_at], p_roots[v_at],
                v_times[1] + p_expires[v_at]);
        IF p_judged[v_at] OR p_counted[v_at] THEN
            UPDATE members m
               SET read_seq = v_seqs[1], read_ord = v_ords[1], marked_unread = FALSE,
                   delivered_seq = greatest(m.delivered_seq, v_seqs[1])
             WHERE m.log_id = v_log AND m.user_id = p_senders[v_at]
         RETURNING (p_judged[v_at] AND m.suspended_until > p_now)::INT INTO v_late;
        END IF;
    ELSIF cardinality(v_indexes) > 1 THEN
        INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, digest,
                            counted, payload, root_seq, expire_time)
        SELECT p_logs[n.i], n.seq, n.time, n.ord, 1, p_senders[n.i], p_requests[n.i],
               p_digests[n.i], p_counted[n.i], p_payloads[n.i], p_roots[n.i],
               n.time + p_expires[n.i]
          FROM unnest(v_indexes, v_seqs, v_times, v_ords) AS n (i, seq, time, ord);

        -- The same of each sender's row, once.
        WITH raised AS (
            UPDATE members m
               SET read_seq = s.seq, read_ord = s.ord, marked_unread = FALSE,
                   delivered_seq = greatest(m.delivered_seq, s.seq)
              FROM (SELECT p_logs[n.i] AS log_id, p_senders[n.i] AS user_id,
                           max(n.seq) AS seq, max(n.ord) AS ord,
                           bool_or(p_judged[n.i]) AS judged
                      FROM unnest(v_indexes, v_seqs, v_ords) AS n (i, seq, ord)
                     WHERE p_judged[n.i] OR p_counted[n.i] GROUP BY 1, 2) s
             WHERE m.log_id = s.log_id AND m.user_id = s.user_id
         RETURNING m.suspended_until, s.judged
        )
        SELECT count(*) INTO v_late FROM raised r WHERE r.judged AND r.suspended_until > p_now;
    END IF;
    IF v_late > 0 THEN
        RAISE EXCEPTION 'a sender was suspended meanwhile' USING ERRCODE = '40001';
    END IF;

    IF v_replies THEN
        UPDATE events e
           SET replies = e.replies + s.count, reply_time = s.time
          FROM (SELECT p_logs[n.i] AS log_id, p_roots[n.i] AS root, count(*) AS count,
                       max(n.time) AS time
                  FROM unnest(v_indexes, v_times) AS n (i, time)
                 WHERE p_roots[n.i] IS NOT NULL GROUP BY 1, 2) s
         WHERE e.log_id = s.log_id AND e.seq = s.root;
    END IF;
    IF v_mentions THEN
        -- Of those who are named, the members; everybody is a row of its own.
        INSERT INTO mentions (log_id, user_id, seq, sender_id)
        SELECT p_logs[n.i], CASE u.id WHEN E'\x01' THEN '' ELSE u.id END, n.seq, p_senders[n.i]
          FROM unnest(v_indexes, v_seqs) AS n (i, seq),
               unnest(string_to_array(p_mentions[n.i], E'\n')) AS u (id)
         WHERE u.id = E'\x01'
            OR EXISTS (SELECT 1 FROM members m
                        WHERE m.log_id = p_logs[n.i] AND m.user_id = u.id);
    END IF;
END
$$;
