import { History } from 'longspan';
const history = new History();
history.add(1, 5.5);
const same = History.from(JSON.parse(JSON.stringify(history.state())));


export {};
