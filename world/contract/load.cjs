// Reads proto files with one version of protobufjs: node load.cjs PACKAGE FILE… PACKAGE is the name under which it is
// installed. Imports are found in proto/, third_party/proto/ and, for google/protobuf, in the package itself.
const { existsSync } = require('node:fs');
const path = require('node:path');

const [name, ...files] = process.argv.slice(2);
const protobuf = require(name);
const folders = [
  path.join(__dirname, 'proto'),
  path.join(__dirname, 'third_party', 'proto'),
  path.dirname(require.resolve(`${name}/package.json`)),
];
const root = new protobuf.Root();
root.resolvePath = (_, target) => folders.map((folder) => path.join(folder, target)).find(existsSync) ?? null;
root.loadSync(files, { keepCase: true });
root.resolveAll();
console.log(root.lookupService('latchkey.v1.AuthService').methodsArray.length);
