import { writeFileAtomic, loadCorpus } from 'longspan';
await writeFileAtomic('notes.md', '# Notes');
const corpus = await loadCorpus('.', { extensions: ['.md'] });
console.log(corpus.files.length, corpus.totalBytes);


export {};
