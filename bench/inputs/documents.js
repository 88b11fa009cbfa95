// For node: JSON, buffers outside of V8's heap, strings. Argument: per cent of the work.
const work = Number(process.argv[2]) / 100;
const zlib = require('zlib');
let total = 0;
for (let round = 0; round < Math.max(1, 20 * work); ++round) {
  const documents = [];
  for (let i = 0; i < 4000; ++i) {
    documents.push({id: i, name: `document ${i}`, tags: [i % 7, i % 11].map(String), nested: {left: [i, i + 1]}});
  }
  const text = JSON.stringify(documents);
  const buffers = [];
  for (let i = 0; i < 2000; ++i) {
    buffers.push(Buffer.alloc(9000 + (i * 37) % 30000, i % 255));
    if (buffers.length > 200) buffers.splice(0, 100);
  }
  const packed = zlib.gzipSync(text, {level: 1});
  total += JSON.parse(zlib.gunzipSync(packed).toString()).length + Buffer.concat(buffers).length;
}
console.log(total);
