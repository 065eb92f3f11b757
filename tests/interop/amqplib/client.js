// What a Node.js program does with amqplib, checked step by step.
//
//     node client.js PRODUCER_URL CONSUMER_URL PREFIX
//
// The two URLs may be nodes of one cluster. All names begin with PREFIX; what is durable is deleted at the end.
// Ends with 0 when all is as it must be, else prints what differs and ends with 1.
'use strict';

const assert = require('node:assert/strict');
const amqplib = require('amqplib');

const COUNT = 200;
const PREFETCH = 10;
const DEADLINE_MS = 60_000; // far above anything a healthy broker needs: only a hang reaches it

const [producerUrl, consumerUrl, prefix] = process.argv.slice(2);
const steps = [];

function step(name, run) {
  steps.push({ name, run });
}

// Consumes `count` messages, giving each one and its number to `onMessage`; then resolves with them and the tag.
function collect(channel, queue, count, onMessage, options) {
  const messages = [];
  return new Promise((resolve, reject) => {
    const take = (message) => {
      try {
        assert.notEqual(message, null, `the consumer of ${queue} was cancelled by the broker`);
        messages.push(message);
        onMessage(message, messages.length);
      } catch (error) {
        reject(error);
      }
      if (messages.length === count) started.then(({ consumerTag }) => resolve({ messages, tag: consumerTag }));
    };
    const started = channel.consume(queue, take, options);
    started.catch(reject);
  });
}

// The error with which the broker closes a fresh channel on which `run` does what is forbidden.
async function refused(connection, run) {
  const channel = await connection.createChannel();
  const closed = new Promise((resolve) => channel.once('close', resolve));
  const reported = new Promise((resolve) => channel.once('error', resolve));
  await assert.rejects(run(channel));
  await closed;
  return await reported;
}

step('a durable queue on one node is seen on the other', async ({ producer, consumer, queue }) => {
  const channel = await producer.createChannel();
  const made = await channel.assertQueue(queue, { durable: true });
  assert.deepEqual(made, { queue, messageCount: 0, consumerCount: 0 });
  await channel.close();
  const other = await consumer.createChannel();
  assert.equal((await other.checkQueue(queue)).queue, queue);
  await other.close();
});

step('every persistent message is confirmed', async ({ producer, queue }) => {
  const channel = await producer.createConfirmChannel();
  let confirmed = 0;
  for (let number = 0; number < COUNT; number++) {
    channel.sendToQueue(queue, Buffer.from(`message ${number}`), { persistent: true }, (error) => {
      assert.equal(error, null);
      confirmed++;
    });
  }
  await channel.waitForConfirms();
  assert.equal(confirmed, COUNT);
  assert.equal((await channel.checkQueue(queue)).messageCount, COUNT);
  await channel.close();
});

step('the other node delivers them in order and never more than the prefetch', async ({ consumer, queue }) => {
  const channel = await consumer.createChannel();
  await channel.prefetch(PREFETCH);
  let held = [];
  const { messages, tag } = await collect(channel, queue, COUNT, (message, number) => {
    held.push(message);
    assert.ok(held.length <= PREFETCH, `${held.length} unacknowledged messages with a prefetch of ${PREFETCH}`);
    // The window is filled to the brim before anything is acknowledged.
    if (held.length < PREFETCH && number < COUNT) return;
    const full = held;
    held = [];
    if (number % 20 === 0) channel.ack(full.at(-1), true);
    else full.forEach((one) => channel.ack(one));
  });
  assert.deepEqual(messages.map((m) => m.content.toString()), [...Array(COUNT).keys()].map((n) => `message ${n}`));
  assert.deepEqual(messages.map((m) => m.fields.deliveryTag), [...Array(COUNT).keys()].map((n) => n + 1));
  assert.ok(messages.every((m) => !m.fields.redelivered), 'a first delivery says that it is redelivered');
  assert.ok(messages.every((m) => m.fields.exchange === '' && m.fields.routingKey === queue));
  await channel.cancel(tag);
  assert.deepEqual(await channel.checkQueue(queue), { queue, messageCount: 0, consumerCount: 0 });
  await channel.close();
});

step('get takes one message, and an empty queue says so', async ({ producer, consumer, queue }) => {
  const sender = await producer.createConfirmChannel();
  sender.sendToQueue(queue, Buffer.from('first'));
  sender.sendToQueue(queue, Buffer.from('second'));
  await sender.waitForConfirms();
  await sender.close();
  const channel = await consumer.createChannel();
  const first = await channel.get(queue);
  assert.equal(first.content.toString(), 'first');
  assert.equal(first.fields.messageCount, 1);
  channel.nack(first, false, true);
  const again = await channel.get(queue);
  assert.equal(again.content.toString(), 'first');
  assert.equal(again.fields.redelivered, true);
  channel.ack(again);
  const second = await channel.get(queue, { noAck: true });
  assert.equal(second.content.toString(), 'second');
  assert.equal(second.fields.redelivered, false);
  assert.equal(await channel.get(queue), false);
  await channel.close();
});

step('a fanout reaches an exclusive queue of each connection', async ({ producer, consumer, exchange }) => {
  const [near, far] = [await producer.createChannel(), await consumer.createChannel()];
  await near.assertExchange(exchange, 'fanout', { durable: true });
  const received = [];
  for (const channel of [near, far]) {
    const { queue } = await channel.assertQueue('', { exclusive: true });
    assert.match(queue, /^amq\.gen-/);
    await channel.bindQueue(queue, exchange, '');
    received.push(collect(channel, queue, 1, () => {}, { noAck: true }));
  }
  near.publish(exchange, 'any key', Buffer.from('to all'));
  for (const { messages } of await Promise.all(received)) {
    assert.equal(messages[0].content.toString(), 'to all');
    assert.equal(messages[0].fields.exchange, exchange);
    assert.equal(messages[0].fields.routingKey, 'any key');
  }
  await near.deleteExchange(exchange);
  await Promise.all([near.close(), far.close()]);
});

step('headers and properties arrive as they were sent', async ({ producer, consumer, queue }) => {
  const headers = {
    text: 'Grüße',
    empty: '',
    yes: true,
    no: false,
    nothing: null,
    small: -7,
    large: 2 ** 40,
    fraction: 0.125,
    list: [1, 'two', [3], { four: 4 }],
    nested: { deeper: { deepest: 'here' } },
    octets: Buffer.from([0, 1, 254, 255]),
    when: { '!': 'timestamp', value: 1_700_000_000 },
  };
  const properties = {
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    priority: 5,
    correlationId: 'correlation',
    replyTo: 'answers',
    expiration: '600000',
    messageId: 'id-1',
    timestamp: 1_700_000_001,
    type: 'kind',
    userId: 'guest',
    appId: 'app',
  };
  const sender = await producer.createConfirmChannel();
  const body = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251)); // more than one frame
  sender.sendToQueue(queue, body, { ...properties, headers, persistent: true });
  sender.sendToQueue(queue, Buffer.alloc(0), {});
  await sender.waitForConfirms();
  await sender.close();
  const channel = await consumer.createChannel();
  const full = await channel.get(queue, { noAck: true });
  assert.ok(full.content.equals(body), 'the body of several frames differs');
  const { headers: gotHeaders, deliveryMode, clusterId, ...got } = full.properties;
  assert.deepEqual(gotHeaders, headers);
  assert.equal(deliveryMode, 2);
  assert.equal(clusterId, undefined);
  assert.deepEqual(got, properties);
  const bare = await channel.get(queue, { noAck: true });
  assert.equal(bare.content.length, 0);
  assert.deepEqual(bare.properties.headers, {});
  assert.equal(bare.properties.contentType, undefined);
  await channel.close();
});

step('a mandatory message that nothing takes comes back before its confirm', async ({ producer }) => {
  const channel = await producer.createConfirmChannel();
  const seen = [];
  channel.on('return', (message) => seen.push(message));
  channel.publish('', `${prefix}-nowhere`, Buffer.from('lost?'), { mandatory: true }, () => seen.push('confirmed'));
  await channel.waitForConfirms();
  const [returned, confirmed] = seen;
  assert.equal(confirmed, 'confirmed');
  assert.equal(returned.content.toString(), 'lost?');
  assert.equal(returned.fields.replyCode, 312);
  assert.equal(returned.fields.replyText, 'NO_ROUTE');
  await channel.close();
});

step('a queue that does not exist is a 404', async ({ consumer }) => {
  const missing = `${prefix}-missing`;
  const error = await refused(consumer, (channel) => channel.checkQueue(missing));
  assert.equal(error.code, 404);
  assert.match(error.message, new RegExp(`"NOT_FOUND - no queue '${missing}' in vhost '/'"$`));
});

step('another declaration of the queue is a 406', async ({ consumer, queue }) => {
  const error = await refused(consumer, (channel) => channel.assertQueue(queue, { durable: false }));
  assert.equal(error.code, 406);
  const text = `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${queue}' in vhost '/': received 'false' but current is 'true'`;
  assert.ok(error.message.endsWith(`"${text}"`), error.message);
});

step('the connections live on after refusals, and the queue is deleted', async ({ producer, consumer, queue }) => {
  const [near, far] = [await producer.createChannel(), await consumer.createChannel()];
  const cancelled = new Promise((resolve) => {
    far.consume(queue, (message) => message === null && resolve());
  });
  await far.checkQueue(queue);
  assert.deepEqual(await near.deleteQueue(queue), { messageCount: 0 });
  await cancelled;
  await Promise.all([near.close(), far.close()]);
});

async function main() {
  const producer = await amqplib.connect(producerUrl);
  const consumer = await amqplib.connect(consumerUrl);
  const world = { producer, consumer, queue: `${prefix}-queue`, exchange: `${prefix}-fanout` };
  for (const { name, run } of steps) {
    try {
      await run(world);
      console.log(`ok: ${name}`);
    } catch (error) {
      console.log(`differs: ${name}\n${error.stack}`);
      process.exit(1);
    }
  }
  await Promise.all([producer.close(), consumer.close()]);
  console.log('done');
}

setTimeout(() => {
  console.log('hangs: see the last step that is ok');
  process.exit(1);
}, DEADLINE_MS).unref();

main().catch((error) => {
  console.log(error.stack);
  process.exit(1);
});
