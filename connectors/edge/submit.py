"""From a client's body to a request in the log, and a reader of its stream."""

from datetime import UTC, datetime
from typing import Any

from connectors.edge.auth import Auth, Caller
from connectors.edge.errors import ApiError, rejected, unavailable
from connectors.edge.publish import Publisher
from connectors.edge.streams import Streams
from connectors.edge.subscription import Subscription
from processors.admission.validate import RequestRejected
from processors.edge.submission import Origin, Submission, submit
from processors.events import OnDisconnect
from processors.identity import KEY_LENGTH


class Submitter:
    """Publishes what clients submit."""

    def __init__(self, auth: Auth, streams: Streams, publisher: Publisher) -> None:
        self._auth = auth
        self._streams = streams
        self._publisher = publisher
        self.draining = False
        self.submitted = 0

    def prepare(
        self,
        caller: Caller,
        data: dict[str, Any],
        on_disconnect: OnDisconnect,
        client_request_id: str | None = None,
        cache_control: str = "",
    ) -> Submission:
        """The request, checked, under a fresh id.

        Raises:
            ApiError: whatever is wrong with it, 404 for a model that the tenant has no route to, 503 while the
                edge drains.
        """
        if self.draining:
            raise unavailable("shutting_down", "this server is shutting down; try again")
        key = caller.key[:KEY_LENGTH]
        origin = Origin(caller.tenant, self._publisher.edge, on_disconnect, client_request_id, cache_control, key)
        try:
            submission = submit(data, self._publisher.draw_id(), origin, datetime.now(UTC))
        except RequestRejected as error:
            raise rejected(error) from None
        model, routes = submission.request.model, self._auth.rights(caller).routes
        if model not in routes:
            known = ", ".join(sorted(routes)) or "none"
            message = f"model `{model[:200]}` does not exist; known: {known}"
            raise ApiError(404, "model_not_found", message, "model")
        return submission

    async def send(self, submission: Submission) -> Subscription:
        """Publish it; returns the reader of its stream once the log has it.

        Raises:
            NotSent: the log is known to be away; nothing was written.
            ApiError: 503, the log did not answer. Should it take the request later, the reader has left by then.
        """
        self._publisher.check_reachable()
        request = submission.request
        subscription = self._streams.submitting(request.id, request.tenant)
        try:
            await self._publisher.request(submission)
        except BaseException:
            self._streams.not_submitted(subscription)
            raise
        self.submitted += 1
        return subscription
