#!/bin/sh
# Stands in for a service, by the name it is called by: announces the port it was given and sleeps.
service="${0##*/}"
if [ "$service" = "$STAND_IN_FAILS" ]; then
    echo 'STRIPE_WEBHOOK_SECRET: required' >&2
    exit 1
fi
case "$service" in
event-store) port=$EVENT_STORE_PORT ;;
mock-pagerduty) port=$MOCK_PAGERDUTY_PORT ;;
summarizer) port=$SUMMARIZER_PORT ;;
stripe-ingester) port=$STRIPE_INGESTER_PORT ;;
status-poller) port=$STATUS_POLLER_PORT ;;
delivery) port=$DELIVERY_PORT ;;
gateway) port=$GATEWAY_PORT ;;
esac
echo "$service pid=$$"
echo "$service told $port $EVENT_STORE_URL $GATEWAY_URL $PAGERDUTY_URL"
echo "{\"msg\":\"listening\",\"address\":\"127.0.0.1:$port\"}"
exec /bin/sleep 600
