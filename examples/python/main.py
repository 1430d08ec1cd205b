"""A client of Latchkey in Python. It signs up, logs in, watches revocations, refreshes with a request id that it keeps,
reads refusals and logs out. See ../README.md; ./generate.sh writes what is imported from gen/.
"""

import os
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "gen"))

import grpc  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from latchkey.v1 import (  # noqa: E402
    auth_service_pb2,
    auth_service_pb2_grpc,
    revocation_service_pb2,
    revocation_service_pb2_grpc,
)

ADDRESS = os.environ.get("LATCHKEY_ADDR", "127.0.0.1:50051")
SERVICE_KEY = os.environ.get("LATCHKEY_SERVICE_KEY", "")
# Seconds for one call.
DEADLINE = 10
# The client notices a dead connection after 13 s. Without the last line gRPC's C core sends few pings if there is no data.
OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
]


class Refusal:
    """What Latchkey says about an error: a reason that a program can act on, the fields that are wrong, when to try again
    (seconds), and the trace id, with which operators find the call in the log.
    """

    def __init__(self, err):
        self.code = err.code().name
        self.reason = ""
        self.fields = []
        self.retry_after = 0.0
        self.trace_id = ""
        status = status_pb2.Status()
        for key, value in err.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status.ParseFromString(value)
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            request = error_details_pb2.RequestInfo()
            if detail.Unpack(info) and info.domain == "latchkey":
                self.reason = info.reason
            elif detail.Unpack(bad):
                self.fields = ["%s: %s" % (v.field, v.description) for v in bad.field_violations]
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
            elif detail.Unpack(request):
                self.trace_id = request.request_id


def refresh(auth, token, request_id=None):
    """Trades the refresh token for the next pair of tokens. If no answer comes, it asks again with the same request id:
    the service recognises the repeat and answers with the same tokens. An app stores the id beside the token until the
    answer is there.
    """
    request = auth_service_pb2.RefreshTokenRequest(refresh_token=token, request_id=request_id or str(uuid.uuid4()))
    for attempt in range(5):
        try:
            return auth.RefreshToken(request, timeout=DEADLINE).tokens
        except grpc.RpcError as err:
            lost = err.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if not lost or attempt == 4:
                raise
            time.sleep(max(Refusal(err).retry_after, 0.1 * 2**attempt))


class Watcher(threading.Thread):
    """Calls on_revocation for each revocation, and reads one stream after another until stop is called. The service ends a
    stream when its connection is too old; the next stream continues after the last cursor, so that no revocation is missed.
    """

    def __init__(self, revocations, on_revocation):
        super().__init__(daemon=True)
        self.revocations = revocations
        self.on_revocation = on_revocation
        self.ready = threading.Event()  # the snapshot is here, or failed is set
        self.failed = None
        self.stopped = threading.Event()
        self.stream = None

    def run(self):
        cursor, failures = "", 0
        while not self.stopped.is_set():
            self.stream = self.revocations.WatchRevocations(
                revocation_service_pb2.WatchRevocationsRequest(cursor=cursor),
                metadata=[("authorization", "Bearer " + SERVICE_KEY)],
            )
            retry_after = 0.0
            try:
                for response in self.stream:
                    failures = 0
                    for revocation in response.revocations:
                        self.on_revocation(revocation)
                    cursor = response.cursor
                    if response.complete:
                        self.ready.set()
            except grpc.RpcError as err:
                refusal = Refusal(err)
                retry_after = refusal.retry_after
                if refusal.reason in ("KEY_INVALID", "VALIDATION_FAILED"):
                    self.failed = err  # trying again would not help
                    self.ready.set()
                    return
                if refusal.reason == "CURSOR_EXPIRED":
                    cursor = ""  # begin with a snapshot
            self.stopped.wait(max(retry_after, min(0.1 * 2**failures, 5)))
            failures += 1

    def stop(self):
        self.stopped.set()
        if self.stream is not None:
            self.stream.cancel()
        self.join()


def main():
    # In production: grpc.secure_channel with grpc.ssl_channel_credentials(). Passwords and tokens go over it.
    with grpc.insecure_channel(ADDRESS, options=OPTIONS) as channel:
        auth = auth_service_pb2_grpc.AuthServiceStub(channel)
        revocations = revocation_service_pb2_grpc.RevocationServiceStub(channel)

        email, password = "ada-%s@example.com" % uuid.uuid4(), "correct horse battery"
        auth.SignUp(
            auth_service_pb2.SignUpRequest(email=email, password=password, first_name="Ada", last_name="Lovelace"),
            timeout=DEADLINE,
        )
        print("signed up:", email)

        login = auth.Login(
            auth_service_pb2.LoginRequest(email=email, password=password, device_name="Python example"),
            timeout=DEADLINE,
        )
        session = login.tokens.session_id
        print("logged in: session", session)

        told = threading.Event()
        heard = []

        def on_revocation(revocation):
            if revocation.session_id == session:
                heard.append(revocation)
                told.set()

        watcher = Watcher(revocations, on_revocation)
        watcher.start()
        watcher.ready.wait()
        if watcher.failed is not None:
            raise watcher.failed
        print("watching revocations")

        # The first answer is thrown away, as if it had been lost on the way.
        request_id = str(uuid.uuid4())
        lost = refresh(auth, login.tokens.refresh_token, request_id)
        tokens = refresh(auth, login.tokens.refresh_token, request_id)
        if lost.refresh_token != tokens.refresh_token:
            raise SystemExit("the repeat was answered with another refresh token")
        print("refreshed: the repeat has the same refresh token")

        for method, request in (
            (auth.Login, auth_service_pb2.LoginRequest(email=email, password="not the password")),
            (
                auth.SignUp,
                auth_service_pb2.SignUpRequest(
                    email="no address", password=password, first_name="Ada", last_name="Lovelace"
                ),
            ),
        ):
            try:
                method(request, timeout=DEADLINE)
            except grpc.RpcError as err:
                refusal = Refusal(err)
                print(
                    "refused: %s %s [%s] trace id %s"
                    % (refusal.code, refusal.reason, "; ".join(refusal.fields), refusal.trace_id)
                )
            else:
                raise SystemExit("the call was not refused")

        auth.Logout(auth_service_pb2.LogoutRequest(refresh_token=tokens.refresh_token), timeout=DEADLINE)
        told.wait()
        kind = revocation_service_pb2.RevocationKind.Name(heard[0].kind)
        print("revoked:", kind, heard[0].session_id)
        watcher.stop()


def fail(code, text):
    print(text, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    if not SERVICE_KEY:
        fail(
            2,
            "LATCHKEY_SERVICE_KEY is not set: the watch of revocations needs a service key. `latchkey dev` keeps one in the "
            "file service-key of its folder: see examples/README.md",
        )
    try:
        main()
    except grpc.RpcError as error:
        described = Refusal(error)
        fail(1, "%s: %s" % (" ".join(filter(None, (described.code, described.reason))), error.details()))
