"""From a batch to a destination: encode once, queue, account, retry, time out, push."""
