//! A faithful fake PagerDuty with faults on request.
