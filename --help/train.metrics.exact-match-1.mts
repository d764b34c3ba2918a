import { exactMatch } from 'longspan';
exactMatch([[1, 2], [3]], [[1, 2], [4]]); // 0.5


export {};
