"""The calls that a policy did not let be sent: the service has not seen them."""


class NotSent(Exception):
    """The message says why, about "the {upstream} service"."""

    message = ""


class Throttled(NotSent):
    """Most of the last calls failed."""

    message = "Most calls to the {upstream} service fail at present; this one was not sent."


class Full(NotSent):
    """The call has waited its time for others to end."""

    message = "The {upstream} service has slowed down, and other calls to it went first."


class AddressesRest(NotSent):
    """No address of the service takes connections, and the next attempt is not due yet."""

    message = "The {upstream} service cannot be reached; its next trial is in less than a second."
