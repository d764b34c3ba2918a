import { Random } from 'longspan';
const random = new Random(1);
const saved = JSON.stringify(random.state());
const next = random.below(100);
Random.from(JSON.parse(saved)).below(100) === next; // true


export {};
