// A consumer that connects again by itself, with amqplib's recovery.
//
//     node recovering.js URL QUEUE
//
// Prints `consuming` after each connect and `received BODY` for each message; ends after the body `stop`.
'use strict';

const amqplib = require('amqplib');

const [url, queue] = process.argv.slice(2);

async function setup(connection) {
  const channel = await connection.createChannel();
  channel.on('error', () => {}); // the connection is gone, and recovery begins
  await channel.assertQueue(queue, { durable: true });
  await channel.prefetch(1);
  await channel.consume(queue, async (message) => {
    if (message === null) return;
    const body = message.content.toString();
    console.log(`received ${body}`);
    channel.ack(message);
    if (body !== 'stop') return;
    await channel.close();
    await connection.close();
    process.exit(0);
  });
  console.log('consuming');
}

amqplib
  .connect(url, { recovery: { initialDelay: 100, maxDelay: 500, setup } })
  .then((connection) => connection.on('error', () => {}))
  .catch((error) => {
    console.log(error.stack);
    process.exit(1);
  });
