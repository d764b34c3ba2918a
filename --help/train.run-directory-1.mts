import { openRun } from 'longspan';
const run = openRun('runs/book');
run.latest()?.step; // where it would resume


export {};
