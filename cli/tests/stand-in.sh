#!/bin/sh
# Stands in for a service, by the name it is called by: announces an address of its own and sleeps.
service="${0##*/}"
if [ "$service" = "$STAND_IN_FAILS" ]; then
    echo 'STRIPE_WEBHOOK_SECRET: required' >&2
    exit 1
fi
case "$service" in
event-store) port=4000 ;;
mock-pagerduty) port=4001 ;;
*) port=4002 ;;
esac
echo "$service pid=$$"
echo "$service told $EVENT_STORE_PORT $EVENT_STORE_URL $PAGERDUTY_URL"
echo "{\"msg\":\"listening\",\"address\":\"127.0.0.1:$port\"}"
exec /bin/sleep 600
