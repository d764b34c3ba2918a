import { openAtomicFile } from 'longspan';
const file = openAtomicFile('model.bin');
try {
  // ... write to file.fd, in pieces ...
  await file.commit();
} finally {
  file.abort(); // does nothing after a commit
}


export {};
